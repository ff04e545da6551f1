//! A model's name to the files on this disk.
