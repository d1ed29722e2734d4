"""The only doors to the API server and to pods.

`client` speaks HTTP and sorts answers into the few errors that a controller treats differently; the other
modules each open one narrow door with it: `apply` carries out plans, `lists` reads whole kinds, `leases` and
`events` serve leadership and Events, `observe` reads evidence from pods. Nothing here decides anything, and
nothing above this package sees a URL, a status code or a patch format.
"""
