"""What a run needs before it starts: memory, time and communication, on machines of any kind."""
