// The program: installs the signal handlers, parses the command line, runs one subcommand, and
// turns every exception into one line on stderr and an exit code. Under a launcher, what fails the
// same way on all ranks is printed once; what fails on one rank ends the whole job.
#include "app/command_line.h"
#include "app/commands.h"
#include "app/launcher.h"
#include "app/library_settings.h"
#include "app/session.h"
#include "app/signals.h"
#include "core/error.h"

#include <fmt/core.h>

#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include <unistd.h>

namespace lockstep {
namespace {

constexpr double kReportSeconds = 10.0;

struct Failure {
  int code = 0;
  std::string message;
  bool collective = false;  // every rank has it, and all leave in order
};

int run_program(int argc, char** argv, MpiSession& mpi) {
  ProgramFlags program("lockstep", "Lockstep: trains language models on any number of nodes.");
  const std::vector<Command> commands = add_commands(program);
  const Command* command = parse_command_line(program, commands, argc, argv);
  if (command == nullptr) return 0;
  if (!command->polls_signals) restore_default_signals();
  const int code = command->run(mpi);
  // Results that never reached their reader are a failure; training's results are its files.
  if (std::fflush(stdout) != 0 && !command->outlives_output) {
    throw std::system_error(errno, std::generic_category(), "standard output");
  }
  return code;
}

// Must be called while an exception is being handled.
Failure current_failure() {
  try {
    throw;
  } catch (const CollectiveError& error) {
    return {static_cast<int>(error.code()), error.what(), /*collective=*/true};
  } catch (const UserError& error) {
    return {static_cast<int>(error.code()), error.what()};
  } catch (const std::bad_alloc&) {
    return {static_cast<int>(ExitCode::kConfig),
            "out of host memory; run fewer ranks on this node or a smaller model"};
  } catch (const std::system_error& error) {
    // Standard output cannot be written. A reader that has seen enough (`| head`) is no failure.
    if (error.code() == std::errc::broken_pipe) return {.collective = true};
    return {static_cast<int>(ExitCode::kIo), error.what()};
  } catch (const std::exception& error) {
    return {static_cast<int>(ExitCode::kInternal), fmt::format("internal: {}", error.what())};
  }
}

// Names out of files may hold anything; an error stays one line and leaves the terminal alone.
std::string one_line(const std::string& message) {
  std::string line;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

void print_error(int rank, const std::string& message) {
  const std::string who = rank == 0 ? "" : fmt::format("rank {}: ", rank);
  const std::string line = fmt::format("lockstep: {}error: {}\n", who, one_line(message));
  // One write, so that lines of several ranks do not mix; a closed stderr leaves nothing to do.
  const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  static_cast<void>(written);
}

// The ranks that cannot speak to each other. Rank 0 prints at once. The others usually have the
// very same error, and the launcher ends them when rank 0 has left; one that is still alive after
// three seconds is alone with it, and says so.
void report_alone(const Failure& failure) {
  const int rank = launcher_rank(process_environment());
  if (rank != 0) {
    constexpr int kRounds = 60;
    for (int i = 0; i < kRounds; ++i) {
      usleep(50'000);
      if (stop_requested() != 0) return;
    }
  }
  print_error(rank, failure.message);
}

// A failure before MPI was up, such as a key that the configuration does not have: usually every
// rank has it. MPI is started to find out; all ranks that come leave with the first one's failure.
int report_before_mpi(const Failure& failure, MpiSession& mpi) {
  const auto alone = [&] {
    report_alone(failure);
    return failure.code;
  };
  if (!launched_by_mpi() || mpi.ended()) return alone();
  try {
    mpi.start(kReportSeconds, alone);
    const std::unique_ptr<World> world = make_mpi_world(kReportSeconds);
    agree(*world, [&] { fail(static_cast<ExitCode>(failure.code), "{}", failure.message); });
  } catch (const CollectiveError& error) {
    if (mpi.rank() == 0) print_error(0, error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception&) {
    return alone();
  }
  return failure.code;
}

int report(const Failure& failure, MpiSession& mpi) {
  std::fflush(stdout);
  if (failure.code == 0) return 0;
  if (!mpi.active()) return report_before_mpi(failure, mpi);
  if (!failure.collective) {
    print_error(mpi.rank(), failure.message);
    mpi.abort(failure.code);
  } else if (mpi.rank() == 0) {
    print_error(0, failure.message);
  }
  return failure.code;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  lockstep::prefer_good_library_settings(argv);
  lockstep::install_signal_handlers();
  lockstep::MpiSession mpi;
  try {
    return lockstep::run_program(argc, argv, mpi);
  } catch (...) {
    return lockstep::report(lockstep::current_failure(), mpi);
  }
}
