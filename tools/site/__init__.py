"""The course as pages to read without Jupyter."""
