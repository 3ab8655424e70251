"""Stand-ins that inject faults at the store's three doors: disk, network, clock."""
