"""What people said of images: corrections, kept in a database."""
