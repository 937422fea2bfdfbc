"""What a request passes before any endpoint sees it: the connection, the caller's address, the host, the shares."""
