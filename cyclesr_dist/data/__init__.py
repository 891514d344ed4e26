"""Photographs, patches, shards, and the stream of batches that ranks draw from them."""
