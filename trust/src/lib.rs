//! Whose signature a device believes: `OpenPGP`, certificates in a directory.
