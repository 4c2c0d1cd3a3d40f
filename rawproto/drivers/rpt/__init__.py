r"""RPT for programs: coroutines, asyncio's transports, blocking sockets, workers.

::

    coroutines (connect, serve)   transport_api, transport      socket, create, servers
             \                        |                              |
         connection, node  <--- asyncio's loop          pump, caretaker, ends <--- threads
                    `------------- port: one turn ---------'
                                     |
                        transport.endpoint over link's carriers

`port` is the turn that all share. `office` and `responder` refuse ports that nobody holds,
`workers` serves one port by several processes, `tap` writes what passes into a capture.
"""
