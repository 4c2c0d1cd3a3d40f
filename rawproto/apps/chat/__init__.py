"""Chat: rooms that outlive their connections; docs/chat.md.

::

    client --- RPC ---> service --> hub --> members' calls, an event an item
                                     `----> store: events in order, names and whose they are
                                              |
    siblings: "there is more in it" --------> the other processes' hubs
"""
