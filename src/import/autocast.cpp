// torch.autocast: what PyTorch's dispatcher casts before it calls an op on a CPU, by its lists (PyTorch 2.13,
// aten/src/ATen/autocast_mode.cpp). An exported program names a region and its dtype, not the casts.
#include <algorithm>

#include "import/graph_writer.h"

namespace toroid {

namespace {

enum class CastPolicy : uint8_t {
  none,     // as the arguments come
  lower,    // to the region's dtype
  f32,      // to float32
  promote,  // to float32 where one argument is, else to the region's dtype
  product,  // to the region's dtype, unless it comes down to no product, which its result's dtype shows
  inside    // between its own steps, where one call of ours does not
};

// By the op's name without overload; sorted.
struct Row {
  std::string_view op;
  CastPolicy policy;
};
constexpr Row rows[] = {
#define LOWER(op) \
  { "aten." #op, CastPolicy::lower }
#define F32(op) \
  { "aten." #op, CastPolicy::f32 }
#define PRODUCT(op) \
  { "aten." #op, CastPolicy::product }
#define PROMOTE(op) \
  { "aten." #op, CastPolicy::promote }
#define INSIDE(op) \
  { "aten." #op, CastPolicy::inside }
    LOWER(_addmm_activation),
    F32(_lu_with_info),
    INSIDE(_thnn_fused_gru_cell),
    F32(adaptive_avg_pool3d),
    F32(adaptive_max_pool3d),
    LOWER(addbmm),
    LOWER(addmm),
    F32(avg_pool3d),
    LOWER(baddbmm),
    INSIDE(bilinear),
    F32(binary_cross_entropy),
    F32(binary_cross_entropy_with_logits),
    LOWER(bmm),
    PROMOTE(cat),
    F32(cdist),
    LOWER(chain_matmul),
    F32(cholesky),
    F32(cholesky_inverse),
    F32(cholesky_solve),
    PROMOTE(concat),
    PROMOTE(concatenate),
    LOWER(conv1d),
    LOWER(conv2d),
    LOWER(conv3d),
    LOWER(conv_tbc),
    LOWER(conv_transpose1d),
    LOWER(conv_transpose2d),
    LOWER(conv_transpose3d),
    F32(cosine_embedding_loss),
    F32(cross_entropy_loss),
    F32(ctc_loss),
    PRODUCT(einsum),
    F32(fake_quantize_per_tensor_affine),
    F32(fft_fft),
    F32(fft_fft2),
    F32(fft_fftn),
    F32(fft_hfft),
    F32(fft_ifft),
    F32(fft_ifft2),
    F32(fft_ifftn),
    F32(fft_ihfft),
    F32(fft_irfft),
    F32(fft_irfft2),
    F32(fft_irfftn),
    F32(fft_rfft),
    F32(fft_rfft2),
    F32(fft_rfftn),
    F32(fractional_max_pool2d),
    F32(fractional_max_pool3d),
    F32(geqrf),
    F32(grid_sampler),
    F32(grid_sampler_2d),
    F32(grid_sampler_3d),
    INSIDE(gru),
    INSIDE(gru_cell),
    F32(hinge_embedding_loss),
    F32(huber_loss),
    PROMOTE(index_copy),
    F32(inverse),
    F32(kl_div),
    F32(l1_loss),
    F32(linalg_cholesky),
    F32(linalg_cholesky_ex),
    F32(linalg_cond),
    F32(linalg_eig),
    F32(linalg_eigh),
    F32(linalg_eigvals),
    F32(linalg_eigvalsh),
    F32(linalg_householder_product),
    F32(linalg_inv),
    F32(linalg_inv_ex),
    F32(linalg_lstsq),
    LOWER(linalg_matmul),
    F32(linalg_matrix_rank),
    LOWER(linalg_multi_dot),
    F32(linalg_qr),
    F32(linalg_solve),
    F32(linalg_svd),
    F32(linalg_svdvals),
    F32(linalg_tensorinv),
    F32(linalg_tensorsolve),
    LOWER(linalg_vecdot),
    LOWER(linear),
    INSIDE(lstm),
    INSIDE(lstm_cell),
    F32(lu_solve),
    F32(margin_ranking_loss),
    LOWER(matmul),
    F32(max_pool3d),
    F32(max_unpool2d),
    F32(max_unpool3d),
    LOWER(mm),
    F32(mse_loss),
    F32(multi_margin_loss),
    F32(multilabel_margin_loss),
    F32(multilabel_margin_loss_forward),
    F32(nanquantile),
    F32(nll_loss),
    F32(nll_loss2d),
    F32(orgqr),
    F32(ormqr),
    F32(pinverse),
    F32(poisson_nll_loss),
    F32(polar),
    LOWER(prelu),
    F32(prod),
    F32(qr),
    F32(quantile),
    F32(reflection_pad1d),
    F32(reflection_pad2d),
    F32(replication_pad1d),
    F32(replication_pad2d),
    F32(replication_pad3d),
    INSIDE(rnn_relu),
    INSIDE(rnn_relu_cell),
    INSIDE(rnn_tanh),
    INSIDE(rnn_tanh_cell),
    LOWER(scaled_dot_product_attention),
    F32(smooth_l1_loss),
    F32(soft_margin_loss),
    PROMOTE(stack),
    F32(stft),
    F32(svd),
    PRODUCT(tensordot),
    F32(trace),
    F32(triangular_solve),
    F32(triplet_margin_loss),
    F32(view_as_complex),
#undef LOWER
#undef F32
#undef PRODUCT
#undef PROMOTE
#undef INSIDE
};
static_assert(std::ranges::is_sorted(rows, {}, &Row::op));

CastPolicy policy_of(std::string_view op) {
  const std::string_view base = op.substr(0, op.rfind('.'));
  auto row = std::ranges::lower_bound(rows, base, {}, &Row::op);
  return row != std::end(rows) && row->op == base ? row->policy : CastPolicy::none;
}

}  // namespace

Result<std::vector<Arg>> GraphWriter::autocast(const std::string& op, std::vector<Arg> args,
                                               const std::vector<ResultNote>& notes, const Where& where) {
  const CastPolicy policy = policy_of(op);
  if (policy == CastPolicy::none || policy == CastPolicy::inside) return args;
  std::vector<Handle*> floats;
  auto add = [&](Handle& handle) {
    if (handle.valid() && is_float(type(handle).dtype) && type(handle).dtype != DType::f64) floats.push_back(&handle);
  };
  for (Arg& arg : args) {
    if (Handle* handle = std::get_if<Handle>(&arg)) add(*handle);
    if (auto* list = std::get_if<std::vector<Handle>>(&arg))
      for (Handle& handle : *list) add(handle);
  }
  const bool any_f32 = std::ranges::any_of(floats, [&](Handle* handle) { return type(*handle).dtype == DType::f32; });
  DType wanted = *autocast_;
  if (policy == CastPolicy::f32 || (policy == CastPolicy::promote && any_f32)) wanted = DType::f32;
  if (policy == CastPolicy::product && !notes.empty() && notes[0].type && notes[0].type->dtype != wanted) return args;
  for (Handle* handle : floats) {
    if (type(*handle).dtype == wanted) continue;
    TD_TRY(std::vector<Handle> made, call("aten.to.dtype", {*handle, wanted, false, false, None{}}, {}, where));
    *handle = made[0];
  }
  return args;
}

bool GraphWriter::casts_inside(const std::string& op, const std::vector<Arg>& args) const {
  return policy_of(op) == CastPolicy::inside && std::ranges::any_of(args, [&](const Arg& arg) {
           const Handle* handle = std::get_if<Handle>(&arg);
           return handle && handle->valid() && type(*handle).dtype == DType::f32;
         });
}

}  // namespace toroid
