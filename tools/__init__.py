"""What keeps the project: site, notebooks, browser, README, source tables, benchmarks. Not
shipped.
"""
