"""One module a config group, one frozen dataclass an option: the keys, types, ranges, defaults."""
