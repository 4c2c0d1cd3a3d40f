"""Files between two hosts: listed, fetched, put, kept in step, removed; docs/files.md.

::

    client --- RPC ---> server          whoever sends a file reads `source`, whoever receives
      ops, plan        service          one builds it in `partial`; both talk in `transfer`
          \\                /            about `blocks`. `beneath` keeps every path under a root,
           `-- transfer --'             on either side: neither trusts the other's names
"""
