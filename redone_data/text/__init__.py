"""Text at the speed of memory: kernels on Arrow buffers, each beside a plain-Python reference. Import the modules."""
