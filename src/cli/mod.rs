//! The command line: arguments, terminal, exit codes. The only module that prints, reads the environment or the clock.
