// One owner per HDF5 identifier, and the switches that keep HDF5 quiet and closed: no error stacks
// on the user's terminal, no plugins loaded from anywhere.
#pragma once

#include <hdf5.h>

#include <string>
#include <utility>

namespace lockstep {

class Hdf5Handle {
 public:
  using Closer = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  // Takes what an HDF5 call returned; negative means that it failed.
  Hdf5Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  ~Hdf5Handle() { close(); }
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), closer_(other.closer_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    if (this != &other) {
      close();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
      closer_ = other.closer_;
    }
    return *this;
  }

  hid_t id() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  // False if HDF5 reports a failure; the identifier is given up either way.
  bool close() { return id_ < 0 || closer_(std::exchange(id_, H5I_INVALID_HID)) >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Closer closer_ = nullptr;
};

// Call before other HDF5 calls: HDF5 keeps these settings per thread.
void prepare_hdf5();

// The innermost message of this thread's HDF5 error stack, or "".
std::string hdf5_error();

}  // namespace lockstep
