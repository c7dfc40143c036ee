"""A tenant's usage as a data set, asked in SQL.

::

    web      writes the tenant's tables as Parquet (:mod:`tables`, :mod:`files`), a folder of links for each question
    agent    binds that folder, and nothing else of the node, into a sandbox (:mod:`console.live.agent.queries`)
    sandbox  DuckDB, in memory, with its door to files shut (:mod:`worker`)

So whatever a question finds a way to do, it finds the tenant's own tables and no network, no other file, no other process.
"""
