"""What people say of images: corrections, kept in a database."""
