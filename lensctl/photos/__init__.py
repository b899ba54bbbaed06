"""Files into pixels and facts: scanning folders, decoding, EXIF."""
