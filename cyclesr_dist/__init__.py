"""CycleSR and CycleSRGAN: super-resolution for real photographs without pairs, trained on many machines."""

__version__ = "0.1.0"
