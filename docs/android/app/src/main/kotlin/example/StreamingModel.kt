package example

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer

/**
 * A file exported with `streaming=True`, fed one time step at a time.
 *
 * Every state is an input and an output of the signature "step" under one name. There are two buffers for each; what
 * a step wrote into one is read from there by the next step, and nothing is copied.
 *
 * Not safe to use from several threads at once: a step needs the states that the one before it left.
 *
 * @param input the name of the model's input
 * @param output the name of its output
 * @param states the names of the states; `export(...).signatures["initial_state"]["outputs"]` lists them
 */
class StreamingModel(
    assets: AssetManager,
    file: String,
    private val input: String,
    private val output: String,
    private val states: List<String>
) : AutoCloseable {
    private val model = CompiledModel.create(assets, file, CompiledModel.Options(Accelerator.CPU))
    private val x: TensorBuffer = model.createInputBuffer(input, STEP)
    private val y: TensorBuffer = model.createOutputBuffer(output, STEP)
    private var old: Map<String, TensorBuffer> = states.associateWith { model.createInputBuffer(it, STEP) }
    private var new: Map<String, TensorBuffer> = states.associateWith { model.createOutputBuffer(it, STEP) }

    init {
        reset()
    }

    /** Starts a new sequence: from zeros, which is what the signature "initial_state" gives for Keras's own layers. */
    fun reset() {
        for ((name, buffer) in old) {
            val bytes = model.getInputBufferRequirements(name, STEP).bufferSize
            buffer.writeFloat(FloatArray(bytes / Float.SIZE_BYTES))
        }
    }

    /** Feeds one time step, such as one frame of features, and returns its outputs. */
    fun step(features: FloatArray): FloatArray {
        x.writeFloat(features)
        model.run(old + (input to x), new + (output to y), STEP)
        old = new.also { new = old }
        return y.readFloat()
    }

    override fun close() {
        (old.values + new.values + x + y).forEach { it.close() }
        model.close()
    }

    private companion object {
        const val STEP = "step"
    }
}
