"""How the shipped data of the embedded model `mini` is made."""
