"""What is answered: the documents, their charts and their HTML."""
