"""The parts of `mtl report`: what run folders say, how runs stand, which pictures to show."""
