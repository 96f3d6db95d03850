"""C sources of a compiled model's runtime: the public interface, the thread pool, the step."""
