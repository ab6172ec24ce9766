"""Files of data: fetched, verified, unpacked, parsed."""
