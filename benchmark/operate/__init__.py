"""What people do to runs and queues: cancel, pause, retry, clean, read logs."""
