// Slices of typed spans and the argument checks of the collectives.
#include "comm/span.h"

namespace lockstep {

TypedSpan TypedSpan::slice(std::int64_t begin, std::int64_t length) const {
  CHECK(begin >= 0 && length >= 0 && begin <= count - length, "slice [{}, +{}) of {}", begin,
        length, count);
  TypedSpan part = *this;
  part.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(begin) * size_of(dtype);
  part.count = length;
  return part;
}

void check_span(const TypedSpan& span, std::string_view call) {
  CHECK(span.count >= 0, "{}: count {}", call, span.count);
  CHECK(span.data != nullptr || span.count == 0, "{}: {} elements at null", call, span.count);
}

void check_scatter(const TypedSpan& out, const TypedSpan& in, int size, std::string_view call) {
  check_span(out, call);
  check_span(in, call);
  CHECK(out.dtype == in.dtype, "{}: {} from {}", call, name_of(out.dtype), name_of(in.dtype));
  CHECK(out.device == in.device, "{}: {} from {}", call, out.device.name(), in.device.name());
  CHECK(out.count * size == in.count, "{}: {} from {} elements on {} ranks", call, out.count,
        in.count, size);
}

void check_gather(const TypedSpan& out, const TypedSpan& in, int size, std::string_view call) {
  check_scatter(in, out, size, call);
}

}  // namespace lockstep
