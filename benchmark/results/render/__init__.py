"""results/render"""
