"""A login shell over RPT: docs/shell.md has what crosses the wire, and what each process may.

::

    client ~~~~ RPT ~~~~ network process       speaks with everybody, may nothing
                          |     |     `------- terminals and pipes of sessions
                    asks  |     |  orders
                      porter   attendant       root: judges who is who;  the user: one a login,
                          `------^             starts sessions, opens forwarded sockets

`porter` and `attendant` are processes without an event loop, `service` is the network process's
part, `client` the other side, `control` what lets several processes there share one login. What a
command line looks like, cli knows.
"""
