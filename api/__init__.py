"""The web service: validates what is asked, stores it, and answers with what the workers found."""
