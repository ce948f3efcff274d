"""The system calls that Python's os module lacks. The only place where the overlay uses ctypes."""
