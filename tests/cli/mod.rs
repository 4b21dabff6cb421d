//! The program's commands, as somebody types them.

mod run;
