// What survives a power failure: directories, whole files and names that are on disk when a
// function returns. All throw UserError(kIo) naming the path, the reason and the next action.
#pragma once

#include "files/file_system.h"

#include <string>

namespace lockstep {

// The directory and its missing parents, each on disk under its name. A link to a directory is one.
void make_directories(const std::string& path, const FileSystem& files = {});

// The names in it are on disk.
void sync_directory(const std::string& path, const FileSystem& files = {});
// A file, or a directory with everything below it, is on disk.
void sync_tree(const std::string& path, const FileSystem& files = {});

// A new file, synced; the name is not durable until its directory is synced.
void write_new_file(const std::string& path, const std::string& text, const FileSystem& files = {});

}  // namespace lockstep
