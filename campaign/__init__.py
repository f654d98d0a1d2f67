"""The campaign: attacks on the whole chain, each counted, on servers of their own: ``make campaign N=1``."""
