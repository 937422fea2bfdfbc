"""Reading what one has just written: `?fresh=product/123` waits until what is cached of it equals the catalog."""
