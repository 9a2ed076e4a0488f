"""The containers that a master ordered: one life each, all of them, and finding them again."""
