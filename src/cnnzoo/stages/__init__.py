"""The stages of the pipeline, one thin file each: read, call, write."""
