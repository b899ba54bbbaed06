"""Published weights into model folders: read without executing, checked, mapped, written."""
