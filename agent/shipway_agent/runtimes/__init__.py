"""Container runtimes behind one Protocol: Docker, Podman, Apptainer, and no image at all."""
