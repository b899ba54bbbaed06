"""The benchmarks of composed image retrieval, scored as their authors score them.

run.py is the walk: read a benchmark's files, encode its gallery once, rank, score, report.
"""
