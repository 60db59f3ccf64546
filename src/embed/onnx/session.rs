//! How is a graph made to run, on which device, and by how many threads?
//!
//! A session runs one pack at a time. On the CPU there is one for each core with one thread of its own, so that packs run
//! side by side and none waits for another's threads; where the weights are large, fewer with more threads each. The second
//! and later ones are made when they are first needed: one query needs but one.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::ExecutionProviderDispatch;
use ort::session::Session;

use crate::embed::runtime::Device;
use crate::{Error, Result};

/// What the weights of all sessions of a model may take together, where that is more than one copy.
const WEIGHTS_BYTES_MAX: u64 = 1 << 30;

/// The sessions of a model.
pub(crate) struct Sessions {
    plan: Plan,
    /// Sessions that may be made in all.
    most: usize,
    /// Sessions that nobody runs at the moment, and how many more may be made.
    idle: Mutex<(Vec<Session>, usize)>,
    returned: Condvar,
}

/// How a session is made.
struct Plan {
    environment: Environment,
    graph: PathBuf,
    device: Device,
    threads: usize,
}

impl Sessions {
    /// Makes the first one: reads and optimises the graph.
    ///
    /// # Errors
    /// A sentence where the runtime refuses the graph or lacks the device.
    pub(crate) fn open(
        environment: Environment,
        graph: PathBuf,
        bytes: u64,
        device: Device,
    ) -> std::result::Result<Self, Refusal> {
        let (copies, threads) = match device {
            Device::Cpu => layout(rayon::current_num_threads(), bytes),
            // The device itself runs many numbers at once.
            Device::Cuda(_)
            | Device::TensorRt(_)
            | Device::CoreMl
            | Device::DirectMl(_)
            | Device::OpenVino
            | Device::Metal(_) => (1, 1),
        };
        let plan = Plan { environment, graph, device, threads };
        let first = plan.session()?;
        Ok(Self { plan, most: copies, idle: Mutex::new((vec![first], copies - 1)), returned: Condvar::new() })
    }

    /// Runs `work` with a session that nobody else uses meanwhile.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut leased = Leased { session: Some(self.lease()?), sessions: self };
        match leased.session.as_mut() {
            Some(session) => work(session),
            None => Err(Error::Embedding("a session of ONNX Runtime is gone".into())),
        }
    }

    fn lease(&self) -> Result<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = idle.0.pop() {
                return Ok(session);
            }
            if idle.1 > 0 {
                idle.1 -= 1;
                drop(idle);
                return self.plan.session().map_err(|refusal| {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
                    Error::Embedding(format!("ONNX Runtime makes no further session: {}", refusal.0))
                });
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many sessions there are now.
    pub(crate) fn made(&self) -> usize {
        self.most - self.idle.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Runs `look` on the first session, before others use it.
    pub(crate) fn look<T>(&mut self, look: impl FnOnce(&Session) -> T) -> Option<T> {
        let (idle, _) = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        idle.first().map(look)
    }
}

/// A session that goes back when its user is done, also by panic.
struct Leased<'a> {
    session: Option<Session>,
    sessions: &'a Sessions,
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.idle.lock().unwrap_or_else(PoisonError::into_inner).0.push(session);
            self.sessions.returned.notify_one();
        }
    }
}

/// How many sessions, and how many threads each.
fn layout(cores: usize, weights_bytes: u64) -> (usize, usize) {
    let fitting = usize::try_from(WEIGHTS_BYTES_MAX / weights_bytes.max(1)).unwrap_or(usize::MAX);
    let copies = fitting.clamp(1, cores.max(1));
    (copies, cores.max(1) / copies)
}

/// Why there is no session, in the runtime's words.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl<R> From<ort::Error<R>> for Refusal {
    fn from(error: ort::Error<R>) -> Self {
        Self(error.message().trim().to_owned())
    }
}

impl Plan {
    fn session(&self) -> std::result::Result<Session, Refusal> {
        let builder = Session::builder(&self.environment)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            // A thread that waits for work by spinning takes the core from whoever has some.
            .with_intra_op_spinning(false)?
            // Patterns are kept by shape, and texts come in all lengths.
            .with_memory_pattern(false)?;
        let mut builder = match provider(self.device)? {
            Some(provider) => builder.with_execution_providers([provider.error_on_failure()])?,
            None => builder,
        };
        Ok(builder.commit_from_file(&self.graph)?)
    }
}

/// The feature that this build would need for `device`.
pub(crate) fn missing_feature(device: Device) -> Option<&'static str> {
    let (feature, has) = match device {
        Device::Cpu | Device::Metal(_) => return None,
        Device::Cuda(_) => ("onnx-cuda", cfg!(feature = "onnx-cuda")),
        Device::TensorRt(_) => ("onnx-tensorrt", cfg!(feature = "onnx-tensorrt")),
        Device::CoreMl => ("onnx-coreml", cfg!(feature = "onnx-coreml")),
        Device::DirectMl(_) => ("onnx-directml", cfg!(feature = "onnx-directml")),
        Device::OpenVino => ("onnx-openvino", cfg!(feature = "onnx-openvino")),
    };
    (!has).then_some(feature)
}

/// What runs a graph on `device`; nothing for the CPU, which needs no provider.
fn provider(device: Device) -> std::result::Result<Option<ExecutionProviderDispatch>, Refusal> {
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda(number) => cuda(number).map(Some),
        Device::TensorRt(number) => tensorrt(number).map(Some),
        Device::CoreMl => coreml().map(Some),
        Device::DirectMl(number) => directml(number).map(Some),
        Device::OpenVino => openvino().map(Some),
        Device::Metal(_) => Err(Refusal("ONNX Runtime does not know `metal`; on a Mac it runs on `coreml`".into())),
    }
}

/// A provider that the library must have been built with.
#[cfg(any(
    feature = "onnx-cuda",
    feature = "onnx-tensorrt",
    feature = "onnx-coreml",
    feature = "onnx-directml",
    feature = "onnx-openvino"
))]
fn available<P: ort::ep::ExecutionProvider + Into<ExecutionProviderDispatch>>(
    provider: P,
) -> std::result::Result<ExecutionProviderDispatch, Refusal> {
    if P::is_available()? {
        return Ok(provider.into());
    }
    let name = P::NAME;
    Err(Refusal(format!(
        "it was built without {name}; install a build that has it (`pip install onnxruntime-gpu`, `onnxruntime-openvino` \
         or `onnxruntime-directml`), or leave out `--device`"
    )))
}

/// A function that makes a provider, or says which feature would.
macro_rules! provider {
    ($name:ident, $feature:literal, ($($argument:ident: $kind:ty)?), $make:expr) => {
        #[cfg(feature = $feature)]
        fn $name($($argument: $kind)?) -> std::result::Result<ExecutionProviderDispatch, Refusal> {
            available($make)
        }

        #[cfg(not(feature = $feature))]
        fn $name($(_: $kind)?) -> std::result::Result<ExecutionProviderDispatch, Refusal> {
            Err(Refusal(concat!("this build lacks the feature `", $feature, "`").into()))
        }
    };
}

provider!(cuda, "onnx-cuda", (number: u16), ort::ep::CUDA::default().with_device_id(number.into()));
provider!(tensorrt, "onnx-tensorrt", (number: u16), ort::ep::TensorRT::default().with_device_id(number.into()));
provider!(coreml, "onnx-coreml", (), ort::ep::CoreML::default());
provider!(directml, "onnx-directml", (number: u16), ort::ep::DirectML::default().with_device_id(number.into()));
provider!(openvino, "onnx-openvino", (), ort::ep::OpenVINO::default());

#[cfg(test)]
mod tests {
    use super::layout;

    #[test]
    fn every_core_has_a_thread_and_large_weights_fewer_copies() {
        assert_eq!(layout(2, 90 << 20), (2, 1));
        assert_eq!(layout(64, 90 << 20), (11, 5));
        assert_eq!(layout(16, 3 << 30), (1, 16));
        assert_eq!(layout(0, 0), (1, 1));
    }
}
