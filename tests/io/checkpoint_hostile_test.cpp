// Manifests and shards that somebody made: newer formats, names that lead elsewhere, impossible
// sizes, and every feature of HDF5 that reaches outside a plain contiguous dataset.
#include "io/checkpoint.h"

#include "io/fixture.h"
#include "io/hdf5_handle.h"

#include <sys/stat.h>

#include <functional>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::State;

class Hostile : public ::testing::Test {
 protected:
  void SetUp() override {
    state_.add("model/a", {4, 3});
    state_.add("model/b", {5});
    state_.meta = testing::sample_meta(7);
    path_ = testing::save(scratch_ / "c", state_, 1);
    manifest_ = path_ + "/manifest.json";
    shard_ = path_ + "/" + shard_file_name(0, 1);
    good_manifest_ = testing::slurp(manifest_);
    good_shard_ = testing::slurp(shard_);
  }

  // A manifest with one piece of text exchanged and a checksum that fits.
  void expect_refused(const std::string& from, const std::string& to, const std::string& message) {
    testing::spill(manifest_, testing::sealed(testing::replaced(good_manifest_, from, to)));
    SCOPED_TRACE(to);
    testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kQuick); }, message);
    testing::spill(manifest_, good_manifest_);
  }

  // A shard changed through HDF5 itself, with a manifest that vouches for it.
  void expect_shard_refused(const std::function<void(hid_t)>& change, const std::string& message) {
    testing::spill(shard_, good_shard_);
    prepare_hdf5();
    {
      const Hdf5Handle file(H5Fopen(shard_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
      ASSERT_TRUE(file);
      change(file.id());
    }
    const std::string bad = testing::slurp(shard_);
    std::string text =
        testing::replaced(good_manifest_, sha256_text(good_shard_), sha256_text(bad));
    text = testing::replaced(text, fmt::format("\"bytes\":{}", good_shard_.size()),
                             fmt::format("\"bytes\":{}", bad.size()));
    testing::spill(manifest_, testing::sealed(text));
    testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kDeep); }, message);
    EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
  }

  // Replaces model/b by another dataset of the same shape, made with `creation`.
  static void remake_b(hid_t file, hid_t creation, hid_t type, hsize_t count) {
    H5Ldelete(file, "model/b", H5P_DEFAULT);
    const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
    const Hdf5Handle dataset(
        H5Dcreate2(file, "model/b", type, space.id(), H5P_DEFAULT, creation, H5P_DEFAULT),
        H5Dclose);
    ASSERT_TRUE(dataset);
    const std::vector<double> data(count, 1.0);
    H5Dwrite(dataset.id(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data());
  }

  ScratchDirectory scratch_;
  State state_;
  std::string path_, manifest_, shard_, good_manifest_, good_shard_;
};

TEST_F(Hostile, NewerFormatIsRefusedNamingBoth) {
  expect_refused("\"format_major\": 1", "\"format_major\": 2", "format 2.0");
  expect_refused("\"format_major\": 1", "\"format_major\": 2", "reads 1.x");
  expect_refused("\"format_major\": 1", "\"format_major\": 0", "format 0.0");
  // A newer minor is readable, unknown members of the manifest included.
  testing::spill(manifest_,
                 testing::sealed(testing::replaced(good_manifest_, "\"format_minor\": 0",
                                                   "\"format_minor\": 9,\n  \"novelty\": [1]")));
  EXPECT_NO_THROW(verify_checkpoint(path_, VerifyLevel::kDeep));
}

TEST_F(Hostile, FileNamesThatLeadElsewhere) {
  const std::string name = shard_file_name(0, 1);
  for (const char* bad : {"../c/shard-00000-of-00001.h5", "/etc/passwd", "shard-00001-of-00001.h5",
                          "shard-00000-of-00002.h5", "SHARD-00000-of-00001.h5", "", ".",
                          "shard-00000-of-00001.h5\\u0000x"}) {
    expect_refused("\"file\":\"" + name + "\"", "\"file\":\"" + std::string(bad) + "\"",
                   "should be " + name);
  }
  for (const char* bad :
       {"../x", "/etc/passwd", "..", ".hidden", "a/b", "a/../b.jinja", "", "a b"}) {
    expect_refused("\"tokenizer\": []",
                   "\"tokenizer\": [{\"file\":\"" + std::string(bad) +
                       "\",\"bytes\":1,\"sha256\":\"" + sha256_text("x") + "\"}]",
                   "not a plain file name");
  }
  for (const char* bad : {"model/../a", "a", "model/a/b", "/model/a", "model/\\u001b[31m"}) {
    expect_refused("\"name\":\"model/a\"", "\"name\":\"" + std::string(bad) + "\"",
                   "no tensor name");
  }
}

TEST_F(Hostile, ImpossibleFields) {
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,4611686018427387904]", "impossibly large");
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,99999999]", "too small for its tensors");
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,0]", "'shape'");
  expect_refused("\"shape\":[4,3]", "\"shape\":[]", "0 dimensions");
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,1,1,1,3]", "5 dimensions");
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,-3]", "'shape'");
  expect_refused("\"shape\":[4,3]", "\"shape\":[4,3.0]", "'shape'");
  expect_refused("\"shape\":[4,3]", "\"shape\":[5,3]", "in no shard");
  expect_refused("\"shape\":[4,3]", "\"shape\":[3,3]", "holds rows");
  expect_refused("\"dtype\":\"fp32\"", "\"dtype\":\"fp31\"", "dtype");
  expect_refused("\"name\":\"model/b\"", "\"name\":\"model/a\"", "listed twice");
  expect_refused("[0,0,4]", "[9,0,4]", "unknown tensor");
  expect_refused("[0,0,4]", "[0,0,18446744073709551615]", "'ranges'");
  expect_refused("\"step\":7", "\"step\":-7", "'step'");
  expect_refused("\"step\":7", "\"step\":true", "'step'");
  expect_refused("\"seed\":18364758544493064720", "\"seed\":-1", "'seed'");
  expect_refused("\"step\":7", "\"stop\":7", "'step' is missing");
  expect_refused("\"state_digest\": \"", "\"state_digest\": \"x", "'state_digest'");
  expect_refused("\"tokenizer\": []", "\"tokenizer\": {}", "'tokenizer'");
  expect_refused("\"tokenizer\": []", "\"tokenizer\": [", "parse error");
  expect_refused("lockstep checkpoint", "something else", "'format'");
  testing::spill(manifest_,
                 testing::sealed(std::string(100000, '[') + ",\n  \"manifest_sha256\": \""));
  testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kQuick); }, "damaged");
}

TEST_F(Hostile, LinksInPlaceOfFiles) {
  fs::rename(shard_, scratch_ / "elsewhere.h5");
  fs::create_symlink(scratch_ / "elsewhere.h5", shard_);
  testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kQuick); }, "is a link");
  fs::remove(shard_);
  ASSERT_EQ(::mkfifo(shard_.c_str(), 0600), 0);
  testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kQuick); },
                             "not a regular file");
  fs::remove(shard_);
  fs::create_directory(shard_);
  testing::expect_data_error([&] { verify_checkpoint(path_, VerifyLevel::kQuick); },
                             "not a regular file");
}

TEST_F(Hostile, ObjectsTheManifestDoesNotList) {
  expect_shard_refused(
      [](hid_t file) {
        const Hdf5Handle group(H5Gcreate2(file, "extra", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                               H5Gclose);
      },
      "holds 2 objects where the manifest lists 1");
  expect_shard_refused(
      [](hid_t file) {
        H5Lcreate_hard(file, "model/a", file, "model/c", H5P_DEFAULT, H5P_DEFAULT);
      },
      "/model holds 3 objects where the manifest lists 2");
  expect_shard_refused([](hid_t file) { H5Ldelete(file, "model/a", H5P_DEFAULT); },
                       "/model/a is missing");
}

TEST_F(Hostile, Links) {
  expect_shard_refused(
      [](hid_t file) {
        H5Ldelete(file, "model/b", H5P_DEFAULT);
        H5Lcreate_soft("/model/a", file, "model/b", H5P_DEFAULT, H5P_DEFAULT);
      },
      "/model/b is a link");
  const std::string target = scratch_ / "target.h5";
  testing::spill(target, good_shard_);
  expect_shard_refused(
      [&](hid_t file) {
        H5Ldelete(file, "model/b", H5P_DEFAULT);
        H5Lcreate_external(target.c_str(), "/model/b", file, "model/b", H5P_DEFAULT, H5P_DEFAULT);
      },
      "/model/b is a link");
}

TEST_F(Hostile, StorageThatIsNotPlain) {
  const Hdf5Handle external(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  testing::spill(scratch_ / "raw", std::string(100, 'r'));
  H5Pset_external(external.id(), (scratch_ / "raw").c_str(), 0, 20);
  expect_shard_refused([&](hid_t file) { remake_b(file, external.id(), H5T_IEEE_F32LE, 5); },
                       "outside the file");

  const hsize_t chunk = 5;
  const Hdf5Handle filtered(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_chunk(filtered.id(), 1, &chunk);
  H5Pset_shuffle(filtered.id());
  expect_shard_refused([&](hid_t file) { remake_b(file, filtered.id(), H5T_IEEE_F32LE, 5); },
                       "in chunks");

  const Hdf5Handle compact(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_layout(compact.id(), H5D_COMPACT);
  expect_shard_refused([&](hid_t file) { remake_b(file, compact.id(), H5T_IEEE_F32LE, 5); },
                       "in chunks");
}

TEST_F(Hostile, VirtualDatasets) {
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const hsize_t count = 5;
  const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  H5Pset_virtual(layout.id(), space.id(), "absent.h5", "/x", space.id());
  expect_shard_refused(
      [&](hid_t file) {
        H5Ldelete(file, "model/b", H5P_DEFAULT);
        const Hdf5Handle dataset(H5Dcreate2(file, "model/b", H5T_IEEE_F32LE, space.id(),
                                            H5P_DEFAULT, layout.id(), H5P_DEFAULT),
                                 H5Dclose);
        ASSERT_TRUE(dataset);
      },
      "in chunks");
}

TEST_F(Hostile, OtherTypesShapesAndAttributes) {
  expect_shard_refused([](hid_t file) { remake_b(file, H5P_DEFAULT, H5T_IEEE_F32BE, 5); },
                       "element type");
  expect_shard_refused([](hid_t file) { remake_b(file, H5P_DEFAULT, H5T_STD_I32LE, 5); },
                       "element type");
  expect_shard_refused([](hid_t file) { remake_b(file, H5P_DEFAULT, H5T_IEEE_F32LE, 6); },
                       "another shape");
  expect_shard_refused([](hid_t file) { remake_b(file, H5P_DEFAULT, H5T_IEEE_F32LE, 5); },
                       "wrong attributes");
  expect_shard_refused(
      [](hid_t file) { H5Adelete_by_name(file, "model/b", "crc32c", H5P_DEFAULT); },
      "/model/b has no crc32c");
  expect_shard_refused([](hid_t file) { H5Adelete(file, "shards"); },
                       "belongs to another checkpoint");
  expect_shard_refused(
      [](hid_t file) {
        H5Ldelete(file, "model/b", H5P_DEFAULT);
        const Hdf5Handle group(H5Gcreate2(file, "model/b", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                               H5Gclose);
      },
      "/model/b is not a readable dataset");
}

}  // namespace
}  // namespace lockstep
