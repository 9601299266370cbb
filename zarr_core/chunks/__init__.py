"""The stored chunks of an array, read and written; a shard is a small array inside one key."""
