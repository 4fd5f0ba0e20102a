// Stop requests. TERM, USR1, USR2, INT and HUP on any rank mean: finish the step, save, exit 75.
// The handlers set a flag, which the loops poll; repeats and mixtures are harmless, only a second
// INT ends the process at once (exit code 130). A HUP that was ignored at the start, as nohup has
// it, stays ignored.
#pragma once

namespace lockstep {

// Signals wait until install_signal_handlers(), across an exec too.
void hold_signals();

// The first thing main() does, so that no signal can find the default action; lets held ones in.
// Also ignores PIPE:
// a closed terminal or a finished `head` must not kill training.
void install_signal_handlers();

// For commands that do not poll: signals end the process again, one that already came included.
// PIPE stays ignored: the write fails instead, and main() ends the command quietly.
void restore_default_signals();

// What the first stop signal writes to stderr, from inside the handler: `on_term` for TERM, `line`
// for the others. The texts must outlive the program. Until this is called, nothing is written.
void announce_stop(const char* line, const char* on_term);

// The first signal that asked to stop, or 0.
int stop_requested();

// "SIGTERM" and so on.
const char* signal_name(int signal);

}  // namespace lockstep
