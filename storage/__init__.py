"""What survives: schema, engines, migrations, queries by noun, and files by content hash.

Open a database with `storage.engines.open_database`, bring it up to date with
`storage.migrate.migrate`, then work inside `database.read()` or `database.write()` and pass
the session to the query functions (`storage.prompts`, `storage.pairs`, …). Pictures and other
bytes go to a `storage.files.FileStore` before the row that names them is committed.
"""
