"""The parameters of a ``config.pbtxt`` that Triton and its backends read themselves; the rest is the stage's.

Read in the backends' sources and documents in 2026; a name that a newer backend adds belongs here.

References
----------
https://github.com/triton-inference-server: core (src/model_config_utils.cc, src/backend_model.cc), and the
README or docs of onnxruntime_backend, tensorrt_backend, pytorch_backend, python_backend, openvino_backend,
tensorflow_backend and dali_backend.
"""

from __future__ import annotations

BACKEND_PARAMETERS = frozenset(
    {
        # the embedded server
        "engine",
        "use_tf32",
        # Triton itself
        "EXECUTION_ENV_PATH",
        "TRITON_BATCH_STRATEGY_PATH",
        # ONNX Runtime
        "arena_extend_strategy",
        "cudnn_conv_algo_search",
        "do_copy_in_default_stream",
        "enable_mem_arena",
        "enable_mem_pattern",
        "execution_mode",
        "gpu_mem_limit",
        "inter_op_thread_count",
        "intra_op_thread_count",
        "memory.enable_memory_arena_shrinkage",
        "session.use_device_allocator_for_initializers",
        # TensorRT
        "enable_multi_device",
        "execution_context_allocation_strategy",
        "multi_device_gpus",
        "multi_device_per_rank_engines",
        # PyTorch, TorchScript and Python models
        "CACHE_CLEANING_ENABLED",
        "DISABLE_CUDNN",
        "DISABLE_OPTIMIZED_EXECUTION",
        "ENABLE_CACHE_CLEANING",
        "ENABLE_JIT_EXECUTOR",
        "ENABLE_JIT_PROFILING",
        "ENABLE_TENSOR_FUSER",
        "ENABLE_WEIGHT_SHARING",
        "INFERENCE_MODE",
        "INTER_OP_THREAD_COUNT",
        "INTRA_OP_THREAD_COUNT",
        "NUM_INTEROP_THREADS",
        "NUM_THREADS",
        "TORCH_COMPILE_OPTIONAL_PARAMETERS",
        # Python
        "FORCE_CPU_ONLY_INPUT_TENSORS",
        # OpenVINO
        "COMPILATION_NUM_THREADS",
        "CPU_EXTENSION_PATH",
        "ENABLE_BATCH_PADDING",
        "INFERENCE_NUM_THREADS",
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "RESHAPE_IO_LAYERS",
        "SKIP_OV_DYNAMIC_BATCHSIZE",
        "TARGET_DEVICE",
        # TensorFlow
        "MAX_SESSION_SHARE_COUNT",
        "TF_GRAPH_TAG",
        "TF_INIT_OPS_FILE",
        "TF_NUM_INTER_THREADS",
        "TF_NUM_INTRA_THREADS",
        "TF_SIGNATURE_DEF",
        "TF_USE_PER_SESSION_THREADS",
        # DALI
        "num_threads",
        "split_along_outer_axis",
    }
)
