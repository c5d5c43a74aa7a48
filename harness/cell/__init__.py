"""One cell of the matrix: its phases and their keys, what each of them does, the artefacts that cells share, and its record."""
