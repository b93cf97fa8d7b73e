"""The pages: a client of the public API, in a process of its own. Start it with `console.app.run_console`.

Takes: the address of an API.
Gives: pages.
Never: imports a stage.
"""
