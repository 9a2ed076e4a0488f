"""The websocket to the master: what is said, and how it arrives in spite of a bad link."""
