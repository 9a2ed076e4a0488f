"""The resource managers of this master side by side, and the pools they offer."""
