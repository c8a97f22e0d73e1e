//! Lock + recipes + site, evaluated: one value per image whose hash keys all that is built from it.
