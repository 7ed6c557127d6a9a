"""What queues that an earlier version started on this machine still call by this name.

Their process has the old code in memory and starts each pack anew, with the code of today. Jobs
that wait in Slurm run the copy of the code that they were sent with, and need nothing here.
"""
