//! Reading the files of `mobula plan`.
